# SPDX-License-Identifier: Apache-2.0
"""`make defects`: the known defects of cinder's driver and os-brick's connector, looked for in
them and in ours.

`access`, `addresses`, `connector`, `service` and `volumes` hold one scenario per defect,
`catalogue` lists them all. `worker` runs them against one of the two drivers and a lab of its
own, `compute_worker` against one of the two connectors; `report` shares them out to workers and
puts the two answers side by side.
"""
