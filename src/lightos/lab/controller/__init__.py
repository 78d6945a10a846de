# SPDX-License-Identifier: Apache-2.0
"""What every NVMe/TCP controller of the lab is, whether it serves I/O or discovery.

`port` listens and lets hosts connect, `queue` is one TCP connection, `base` is the
controller a host's queues belong to, `outcome` is how a command may end, `events` are its
asynchronous events. The two kinds of controller add their command tables in
`lightos.lab.target` and `lightos.lab.discovery_service`.
"""
