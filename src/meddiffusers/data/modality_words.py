"""Words that file names and series descriptions say of an image, and how a text is divided into them.

Names of data sets, scanners (Siemens, GE, Philips) and tools, in English, German and French.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from meddiffusers.data.contrast_words import (
    AFTER,
    CONTRAST,
    CONTRASTS,
    DENIED_BEHIND,
    EVENT_WORDS,
    NEGATION,
    PHASES,
    POST,
    STEPS,
    UNENHANCED,
    WITH,
    word_set,
)

LABELS = "labels"


# Names of modalities. A vague one counts only where no other is named: "us" may be a surname's letters.
PLAIN = {
    "t1": word_set("t1 t1w t1n t1nc unit1 inplanet1 mprage memprage mp2rage spgr irspgr fspgr irfspgr bravo"),
    "t1ce": word_set("t1ce t1c t1wc t1wks"),
    "t2": word_set("t2 t2w inplanet2"),
    "flair": word_set("flair flairw t2f darkfluid"),
    "pd": word_set("pd pdw proton protondensity"),
    "dwi": word_set("dwi dti adc diffusion tracew epidiff"),
    "ct": word_set("ct ncct nect cect cta hrct ldct cbct"),
}
AMBIGUOUS = {
    "ct1": ("t1ce", "ct"),  # in brain tumour data sets the enhanced T1, elsewhere the first CT
    "tirm": ("flair", "t2"),  # of Siemens: a FLAIR by a long inversion time, a STIR by a short one
}
VAGUE = {
    "t1": word_set("mpr ana tfe"),
    "t2": word_set("haste"),
    "pd": word_set("dp"),
    "dwi": word_set("trace b-value"),
    "us": word_set("us 2ch 4ch bmode ultrasound"),
    "cine": word_set("cine heart"),
}

# Words of label maps, of findings (their outline, or a scan that shows them), and of tissues.
MASK = word_set(
    "mask masks seg segs segm segmentation segmentations segmented dseg fseg aseg synthseg label labels labelmap",
    "gt groundtruth aparc wmparc parc parcellation annotation annotations annot contour contours outline",
    "dkt dktatlas ribbon segtri pveseg gtv brainmask",
)
REGION = word_set("roi rois voi vois msk")  # a label map if nothing follows, else a part of the body, or a department
FINDING = word_set("lesion lesions tumor tumors tumour tumours edema oedema necrosis infarct wmh consensus")
TISSUE = word_set("gm wm csf")

# Images that are none of the modalities, whatever else their name says.
OTHER = word_set(
    # T2*, vessels, emission, perfusion and function
    "t2star t2starw t2s t2smap swi swan swip qsm minip mip tof mra mrv angio angiography pet fdg spect amyloid",
    "asl pcasl pasl cbf cbv rcbv mtt ttp tmax pwi perf perfusion dsc dce ctp bold fmri rfmri tfmri epi sbref",
    "dyn dynamic twist grasp tricks timeresolved",
    # prepared by inversion, saturation or T2 preparation; late enhancement of the heart
    "dir psir inv1 inv2 t1rho lge t2prep mt mtc mtr mtsat mtw mton mtoff",
    # maps of what is measured, and parts of complex or chemically shifted signals
    "map maps mapping qt1 qt2 t1map t2map r2star molli shmolli sasha mrf fingerprinting relaxometry quantitative mese",
    "vfa despot inverse phase magnitude fieldmap fat ff fatfraction eadc",
    # differences, statistics and transforms
    "biasfield ratio difference diff residual error noise sub subs subtract subtraction subtracted subtr subtraktion",
    "soustraction minus jacobian thickness curvature warp warpfield inversewarp deformation displacement transform",
    "xfm velocity prob probs probseg probability probabilities softseg posteriors pve uncertainty variance entropy",
    "heatmap tissueclass atlas template scout localizer localiser survey stdev kmeans fused fusion overlay",
)
# Images that no scanner made.
SYNTHETIC = word_set(
    "synthsr symri synth synthetic synthesized synthesised synthesis pseudo virtual fake simulated inpaint inpainted",
    "generated gan cyclegan predicted prediction predictions pred preds sct synct mrct pct",
)
UNNUMBERED = word_set("sub mt")  # "sub03" is a subject, MT1 a name of ADNI
CHEMICAL = word_set("dixon mdixon vibe flex ideal")  # sequences whose "F" is the image of fat
IN_CT = word_set("angio angiography phase atlas")  # of the words above, those that describe a CT as well
ECHO = word_set("gre ffe fl2d hemo heme medic epi fgre mpgr")  # gradient echoes: T2 with these is T2*
DIFFUSIVITY = word_set("fa md rd ad l1 l2 l3 colfa tensor")  # maps of diffusion tensors

# Spaces to which images are moved.
SPACES = word_set("mni std standard native template atlas")
# What follows one of these is the target of a registration: a moved image keeps its own modality.
TARGET = word_set("to in into onto on coreg coregistered reg registered aligned")
SPACE = word_set("space reg")  # and what precedes these, behind another image: t2_t1space

# Words that say nothing here, but may be glued to others.
_NEUTRAL = STEPS | word_set(
    "brain fl3d tse fse se vibe mprsag spc cube sag cor tra head ax axial sagittal coronal tr ts raw orig preproc",
    "preprocessed fast first manual auto gradwarp dixon weighted fs fatsat",
)
ORIENTATION = word_set("ax axial tra trans sag sagittal cor coronal oblique obl se tse fse tirm weighted 2d 3d")

_PHRASES = {  # words that mean something together
    "t2 star": "t2star",
    "t2w star": "t2star",
    "dark fluid": "darkfluid",
    "da fl": "darkfluid",
    "mp rage": "mprage",
    "ir fspgr": "irfspgr",
    "ir spgr": "irspgr",
    "proton density": "protondensity",
    "apparent diffusion coefficient": "adc",
    "ep2d diff": "epidiff",
    "grad warp": "gradwarp",  # corrected for gradients, not a deformation
    "ground truth": "groundtruth",
    "bias field": "biasfield",
    "biasfield corrected": "corrected",
    "biasfield correction": "corrected",
    "double inversion": "dir",
    "in phase": "dixon",
    "out phase": "dixon",
    "opposed phase": "dixon",
    "opp phase": "dixon",
    "b mode": "bmode",
    "white matter": "wm",
    "grey matter": "gm",
    "gray matter": "gm",
    **{f"{word} iv": f"{word} injection" for word in ("with", "mit", "avec", "con")},
    "t2 prep": "t2prep",
    "mt on": "mton",
    "mt off": "mtoff",
    "exponential adc": "eadc",
    "exp adc": "eadc",
    "time resolved": "timeresolved",
    "fat fraction": "fatfraction",
    **{f"fat {word}": "fatsat" for word in ("sat", "sup", "suppressed", "suppression", "saturated", "saturation")},
    "hd bet": "hdbet",
    "o ot": "groundtruth",  # VSD.Brain.XX.O.OT, of BraTS and ISLES 2015
}
_NAMES = frozenset().union(*PLAIN.values(), *VAGUE.values())
_KNOWN = frozenset().union(
    _NAMES, CONTRAST, NEGATION, DENIED_BEHIND, UNENHANCED, WITH, AFTER, PHASES, EVENT_WORDS, MASK, REGION, FINDING,
    TISSUE, OTHER - {"sub"}, SYNTHETIC, ECHO, DIFFUSIVITY, TARGET, SPACE, SPACES, AMBIGUOUS, _NEUTRAL,
)  # fmt: skip
# Short words that occur inside others by chance, and so are never found glued to them.
_GLUED = _KNOWN - word_set(
    "us se in on ad md rd fa ts tr op tx rt gm wm dp ana test con mt ff off nc plus late after processed",
)
# Signs that say whether a contrast agent was given. "T1 -C" may be without it, or have a hyphen.
_AGENT = "(gd|gad|gado|km|ce|kontrast|contrast|iv|c)"
_SIGNS = [
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (r"(?<![a-z0-9])w/? ?(and )?w/?o(?![a-z0-9])", "with without"),
        (r"\+ ?/? ?-|±", "with without"),
        (rf"(?<=[ _])- ?{_AGENT}(?![a-z0-9])", "with without"),
        (r"(?<![a-z0-9])w/\s*$", "with without"),
        (rf"(?<![a-z0-9]){_AGENT} ?\?", "contrast unknown"),
        (r"[=:] ?0(?![.\d])", "none"),
        (r"(?<![a-z0-9])post ?[:;,)]", "post contrast"),
        (r"c[ _-]?(?=spine)", ""),  # of the neck
        (r"((?<=post)|(?<=pre))[ _-]c(?![a-z0-9])", "contrast"),
        (r"(?<![a-z0-9])[ws]/o(?![a-z])", "without"),
        (rf"((?<![a-z0-9])|(?<=t1)|(?<=t1w)){_AGENT}-(?![a-z0-9])", "without contrast"),
        (r"(\+|(?<![a-z0-9])plus[ _-])[ _]?(c|iv)(?![a-z0-9])", "contrast"),
        (r"((?<![a-z0-9])|(?<=t1)|(?<=t1w))(c|iv)\+", "contrast"),
        (r"((?<=t1)|(?<=t1w))[ _-]c(?![a-z0-9])", "contrast"),
        (r"(?<=t1)\+(?![a-z0-9 ])", "contrast"),
    )
]
LONGEST = 40  # letters of a token that is divided; longer ones may be divided in too many ways
_T1 = PLAIN["t1"] | PLAIN["t1ce"]
# SPM and CAT12 put these before a name: classes of tissue; and the steps that resliced, warped or smoothed the image.
_CLASSES = re.compile(r"m?[rw]*[cp][0-6](?=(t1|t2|flair|pd|mprage))")
_STEPS = re.compile(r"[mrsuw]{1,3}(?=(t1|t2|flair|mprage))")
_DIMENSIONS = re.compile(r"[234]d(?=[a-z])")
_MAP = re.compile(r"[a-z]{1,5}maps?")  # of statistics: zmap, tmap
_B_VALUE = re.compile(r"(^|(?<=dwi))b([4-9]|[1-9]\d)[05]0$")  # b400 and above; B12 may be a subject
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words_in(text: str) -> list[str]:
    """Words of a file name without its ending, or of a description, in lower case; glued words are divided.

    "T1PostContrast_brainMask" gives t1ce, brain, mask; "t2_tirm_dark-fluid" t2, tirm, darkfluid; "T1+C" t1, contrast.
    """
    text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    text = re.sub(r"(?i)t2w?\*", "t2star", text)
    text = re.sub(r"(?i)^i?y_", "deformation ", text)  # of SPM
    text = re.sub(r"(?i)(?<![a-z0-9])b ?= ?(?=\d)", "b", text)
    text = _signs(text)
    words = [word for token in re.findall(r"[^\W_]+", text) for word in _divided(token)]
    joined = f" {' '.join(words)} "
    for phrase, word in _PHRASES.items():
        joined = joined.replace(f" {phrase} ", f" {word} ")
    words = joined.split()
    named = zip(words, (*words[1:], ""), strict=False)  # "sub_03" is a subject, "T1_sub" a subtraction
    return [word for word, next_ in named if word != "sub" or not next_ or is_known(next_)]


def _signs(text: str) -> str:
    """The text with words for the signs that say whether a contrast agent was given: "T1 +C", "Gd-", "w/o"."""
    for pattern, words in _SIGNS:
        text = pattern.sub(f" {words} ", text)
    return text


def kind_of(word: str, spellings: dict[str, frozenset[str]]) -> str:
    """The name whose spellings have the word; "" if none."""
    return next((name for name, words in spellings.items() if word in words), "")


def is_known(word: str) -> bool:
    """Whether a word says something of the image or of its processing, and so nothing of the subject."""
    return word in _KNOWN


def _divided(token: str) -> Iterator[str]:
    word = token.lower()
    if found := _CLASSES.match(word):
        yield from ("tissueclass", word[found.end() :])
        return
    word = _DIMENSIONS.sub("", word, count=1) if word not in _KNOWN else word
    word = _B_VALUE.sub("b-value", word)
    numbered = word.rstrip("0123456789")
    if word in _KNOWN:
        yield word
    elif numbered in (MASK | REGION | OTHER | CONTRASTS | {POST}) - UNNUMBERED or (
        numbered in _NAMES and len(numbered) > 2
    ):
        yield numbered
    elif len(word) <= LONGEST and (pieces := _pieces(word)):
        yield from _joined(pieces)
    elif steps := _STEPS.match(word):
        yield from _divided(word[steps.end() :])
    elif len(parts := _CAMEL.split(token)) > 1:
        for part in parts:
            yield from _divided(part)
    elif (bare := word.lstrip("0123456789")) in ("warp", "inversewarp"):  # of ANTs: 1Warp
        yield bare
    else:
        yield "map" if _MAP.fullmatch(word) else word


def _pieces(word: str, first: bool = True) -> list[str]:
    """The known words that a word is composed of; empty if it is not."""
    for end in range(len(word), 1 if first else 0, -1):
        piece = word[:end]
        if piece not in _GLUED and (piece != "2" or first or end == len(word)):
            continue
        if end == len(word):
            return [piece]
        if rest := _pieces(word[end:], first=False):
            return [piece, *rest]
    return []


def _joined(pieces: list[str]) -> list[str]:
    """ "t1gd" and "gdt1" are one word for an enhanced T1; "t1nogd" is not."""
    kinds = set(pieces)
    if kinds & _T1 and kinds & CONTRAST and not kinds & (NEGATION | DENIED_BEHIND | EVENT_WORDS):
        return ["t1ce", *(piece for piece in pieces if piece not in _T1 | CONTRAST)]
    return pieces
