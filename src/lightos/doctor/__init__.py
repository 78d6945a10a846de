# SPDX-License-Identifier: Apache-2.0
"""`lightos doctor`: what is wrong with a set-up, and how to put it right.

`gather` looks, at files, the kernel, the cluster; `checks` decide from what was seen, and touch
nothing themselves. Nothing is changed, and no secret is among what they hand on.
"""
