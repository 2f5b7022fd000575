"""Words of names and descriptions that concern a contrast agent, in English, German, French and other languages.

Some name an agent and nothing else. Others may also mean something else: a "high contrast", an "enhanced resolution",
"post" surgery. `contrast_agent` interprets them.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AGENTS = _words(
    "ce gd gad gado gadolinium km mkm nkm kontrastmittel kontrastmittelgabe mdc dtpa inj injection injecte injektion"
    # substances
    " gadobutrol gadoterate gadoterat gadoteric gadoteridol gadobenate gadopentetate gadodiamide gadoxetate gadoxetic"
    " gadopiclenol gadoversetamide gadofosveset ferumoxytol"
    # brand names
    " gadovist gadavist dotarem clariscan dotagraf magnevist multihance prohance omniscan optimark primovist eovist"
    " vasovist ablavar artirem elucirem vueway pixxoscan feraheme"
    # glued words that are no words by themselves
    " postcon withcon"
)
CONTRASTS = _words("contrast contraste contrasto kontrast")  # the agent, or the difference between tissues
ENHANCED = _words("enhanced enh enhancement")  # by an agent, or by software
POST = "post"  # after the agent, or after an event
CONTRAST = AGENTS | CONTRASTS | ENHANCED | {POST}

DENIALS = _words("no non not nicht without wo ohne sans senza sin sem zonder sine kein keine")
BEFORE = _words("pre before vor avant")
NEGATION = DENIALS | BEFORE
SHORT_DENIALS = _words("o s ss")  # "o. KM", "s. KM", "ss contraste"
DENIED_BEHIND = _words("free frei libre none nein off negative")  # "KM-frei", "contrast: none"
BETWEEN = _words("iv i v any added agent given gabe de du des d produit medium media")  # "sans produit de contraste"
WITH, AFTER = _words("with mit avec con plus"), _words("post after nach apres")
AND = _words("and und et or oder ou")
UNENHANCED = _words("pre native nativ unenhanced nc noncon precon okm skm")

# Phases of the blood after an agent, which need not have been given: a late scan is one of several.
PHASES = _words("late delayed arterial venous portal equilibrium hepatobiliary")

# "post" and "pre" before these speak of an event, by their beginnings …
EVENTS = (
    *("oper", "surg", "chir", "resec", "biops", "treat", "therap", "radi", "chem", "bestrahl", "strahl", "trauma"),
    *("injur", "strok", "ictal", "mortem", "natal", "partum", "interven", "exerc", "train", "vacc", "ablat"),
    *("thromb", "embol", "transplant", "implant", "proc", "central", "lateral"),
)
EVENT_WORDS = _words("op tx rt crt fossa test")  # … or as a whole; the posterior fossa is no event either
# … and before these of a step of processing, or else the scan after the agent was so processed.
STEPS = _words("n3 n4 bet hdbet reg registered norm normalized deface defaced skull stripped head corrected")
MINUTES = _words("s sec secs seconds sekunden min mins minute minutes minuten")
LONG_TIMES = _words(
    "m mo w wk y yr day days tage jours week weeks wochen semaines month months monate mois year years jahre ans"
)
# "contrast" and "enhanced" beside these speak of quality.
QUALITIES = _words(
    "high low hi soft good better best improved strong weak tissue image edge quality resolution detail snr sharp"
    " sharpness ai dl dlr deep clahe denoised stretch stretched stretching adjust adjusted adjustment normalized"
    " normalised normalization equalized equalised matched transfer limited ratio"
)
