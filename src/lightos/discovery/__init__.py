# SPDX-License-Identifier: Apache-2.0
"""The host's discovery client: files say which clusters a host wants, the kernel gets the paths."""
