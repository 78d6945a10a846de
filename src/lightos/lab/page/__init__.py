# SPDX-License-Identifier: Apache-2.0
"""The lab's web page: `overview` is what it tells, `server` serves it on loopback.

The page itself is in `static`, as it is sent.
"""
