# SPDX-License-Identifier: Apache-2.0
"""What stands behind the public names.  Nothing here is promised to anybody.

Three floors: words and checks (``default``, ``constants``, ``names``, ``options``, ``resources``),
the making of an application (``graph``, ``version``, ``ingress``, ``views``), and the running of
user code (``user_code``, ``transport`` and its implementations).

The public package is always loaded first, so that whoever begins with a module of this one (the
native run time does) meets the same order of imports as everybody else.
"""

import manta.serve  # noqa: F401
