# SPDX-License-Identifier: Apache-2.0
"""`make defects`: the known defects of cinder 29's own driver, looked for in it and in ours.

`scenarios` holds one function per defect, `worker` runs them against one of the two drivers and a
lab of its own, `report` shares them out to workers and puts the two answers side by side.
"""
