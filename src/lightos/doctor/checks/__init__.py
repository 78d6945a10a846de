# SPDX-License-Identifier: Apache-2.0
"""What to say of what was seen. Pure: facts in, findings out."""
