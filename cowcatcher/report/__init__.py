"""Everything that a person or a CI reads.

First a result becomes one dictionary of plain values (``record``): that is the JSON. Text, KTAP and the rest are
renderings of this dictionary and take nothing else, so they can never say more, or something different.
"""
