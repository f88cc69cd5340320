# SPDX-License-Identifier: Apache-2.0
"""Ray Serve's module of this name, which this version does not have: importing it says so."""

from manta._private.absent import refuse

refuse(__name__)
