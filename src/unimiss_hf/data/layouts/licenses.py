"""Terms that several data sets share."""

from .item import License

_CREATIVE_COMMONS = "https://creativecommons.org/licenses"

CC_BY_3 = License("cc-by-3.0", "CC BY 3.0", f"{_CREATIVE_COMMONS}/by/3.0/")
CC_BY_4 = License("cc-by-4.0", "CC BY 4.0", f"{_CREATIVE_COMMONS}/by/4.0/")
CC_BY_SA_4 = License("cc-by-sa-4.0", "CC BY-SA 4.0", f"{_CREATIVE_COMMONS}/by-sa/4.0/")
CC_BY_NC_4 = License("cc-by-nc-4.0", "CC BY-NC 4.0", f"{_CREATIVE_COMMONS}/by-nc/4.0/")
CC_BY_NC_SA_4 = License("cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0", f"{_CREATIVE_COMMONS}/by-nc-sa/4.0/")
CC_BY_NC_ND_4 = License("cc-by-nc-nd-4.0", "CC BY-NC-ND 4.0", f"{_CREATIVE_COMMONS}/by-nc-nd/4.0/")


def unstated(homepage: str) -> License:
    """The terms of a data set that does not name any licence."""
    return License("unknown", "see homepage", homepage)
