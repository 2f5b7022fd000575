"""Words of names and descriptions that concern a contrast agent, in English, German, French and other languages.

Some name an agent and nothing else. Others may also mean something else: a "high contrast", an "enhanced resolution",
"post" surgery. `contrast_agent` interprets them.
"""

from __future__ import annotations


def word_set(*texts: str) -> frozenset[str]:
    """The words of some texts."""
    return frozenset(" ".join(texts).split())


AGENTS = word_set(
    "ce gd gad gado gadolinium km mkm nkm kontrastmittel kontrastmittelgabe mdc dtpa dota bopta eob inj injection",
    "injecte injektion kontrastverstarkt rehausse rehaussement gadolinio",
    # substances
    "gadobutrol gadoterate gadoterat gadoteric gadoteridol gadobenate gadopentetate gadodiamide gadoxetate gadoxetic",
    "gadopiclenol gadoversetamide gadofosveset ferumoxytol",
    # brand names
    "gadovist gadavist dotarem clariscan dotagraf magnevist multihance prohance omniscan optimark primovist eovist",
    "vasovist ablavar artirem elucirem vueway pixxoscan feraheme",
    # glued words that are no words by themselves
    "postcon withcon",
)
CONTRASTS = word_set("contrast contraste contrasto kontrast")  # the agent, or the difference between tissues
ENHANCED = word_set("enhanced enh enhancement")  # by an agent, or by software
POST = "post"  # after the agent, or after an event
CONTRAST = AGENTS | CONTRASTS | ENHANCED | {POST}

DENIALS = word_set("no non not nicht without wo ohne sans senza sin sem zonder sine kein keine")
BEFORE = word_set("pre before vor avant prima antes")
NEGATION = DENIALS | BEFORE
SHORT_DENIALS = word_set("o s ss")  # "o. KM", "s. KM", "ss contraste"
DENIED_BEHIND = word_set("free frei libre none nein off negative negativ negatif")  # "KM-frei", "contrast: none"
# A negation reaches over these: "sans produit de contraste".
BETWEEN = word_set("iv i v any added agent given cont contr gabe de du des d produit cm medium media")
WITH, AFTER = word_set("with mit avec con plus"), word_set("post after nach apres dopo despues")
AND = word_set("and und et or oder ou e y")
UNENHANCED = word_set("pre native nativ unenhanced nc noncon precon okm skm")

# Phases of the blood after an agent, which need not have been given: a late scan is one of several.
PHASES = word_set("late delayed arterial venous portal equilibrium hepatobiliary")

# "post" and "pre" before these speak of an event, by their beginnings …
EVENTS = (
    *("oper", "surg", "chir", "resec", "biops", "treat", "therap", "radiat", "radiot", "radios", "radioch", "chem"),
    *("bestrahl", "strahl", "trauma", "injur", "strok", "ictal", "mortem", "natal", "partum", "interven", "exerc"),
    *("train", "vacc", "ablat", "thromb", "embol", "transplant", "implant", "processing", "central", "lateral"),
)
EVENT_WORDS = word_set("op tx rt crt proc fossa test")  # … or as a whole; the posterior fossa is no event either
# … and before these of a step of processing, or else the scan after the agent was so processed.
STEPS = word_set("n3 n4 bet hdbet reg registered norm normalized deface defaced skull stripped corrected processed")
MINUTES = word_set("s sec secs seconds sekunden min mins minute minutes minuten")
LONG_TIMES = word_set(
    "h hrs hours stunden heures m mo w wk y yr day days tage jours week weeks wochen semaines month months monate",
    "mois year years jahre ans",
)
# Parts of the body, sequences and reconstructions that "post" stands before as well.
SCANNED = word_set(
    "head neck face orbit orbits iac pituitary sella hypophyse spine cspine lspine tspine knee hip shoulder liver",
    "abdomen pelvis breast prostate kidney skull base stealth nav navigation stereo lava propeller blade radial flash",
    "vista thrive black blood bh iso isotropic thin thick recon reformat repeat rpt motion res hires highres left",
    "right whole flow comp kopf hals knie leber becken",
)
# "contrast" and "enhanced" beside these speak of quality.
QUALITIES = word_set(
    "high low hi soft good better best improved strong weak tissue image edge quality resolution detail superres sr",
    "snr sharp sharpness ai dl dlr deep clahe denoised stretch stretched stretching adjust adjusted adjustment",
    "normalized normalised normalization equalized equalised matched transfer limited ratio",
)
