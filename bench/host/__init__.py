# SPDX-License-Identifier: Apache-2.0
"""`make bench-host`: our connector and os-brick's own on one real kernel, in the same run.

`bed` is the host, the cluster and the two services beside each other; `guest_side` is what runs
inside the host; each module that measures has a `PART`, as in bench.cinder.
"""
