# SPDX-License-Identifier: Apache-2.0
"""The lab's web page: `events` and `overview` are what it tells, `server` serves it on loopback.

The page itself is in `static`, as it is sent.
"""
