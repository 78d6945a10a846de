# SPDX-License-Identifier: Apache-2.0
"""`make defects`: the known defects of cinder 29's own driver, looked for in it and in ours.

`access`, `addresses`, `service` and `volumes` hold one scenario per defect, `catalogue` lists them
all. `worker` runs them against one of the two drivers and a lab of its own, `report` shares them
out to workers and puts the two answers side by side.
"""
