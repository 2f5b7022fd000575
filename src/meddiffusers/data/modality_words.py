"""Words that file names and series descriptions say of an image, and how a text is divided into them.

Names of data sets, scanners (Siemens, GE, Philips) and tools, in English, German and French.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LABELS = "labels"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names of modalities. A vague one counts only where no other is named: "us" may be a surname's letters.
PLAIN = {
    "t1": _words("t1 t1w t1n unit1 inplanet1 mprage memprage mp2rage spgr irspgr fspgr irfspgr bravo"),
    "t1ce": _words("t1ce t1c t1wc t1wks"),
    "t2": _words("t2 t2w inplanet2"),
    "flair": _words("flair flairw t2f tirm darkfluid"),
    "pd": _words("pd pdw proton protondensity"),
    "dwi": _words("dwi dti adc diffusion tracew b1000 epidiff"),
    "ct": _words("ct ncct nect cect cta hrct ldct cbct"),
}
AMBIGUOUS = {"ct1": ("t1ce", "ct")}  # in brain tumour data sets the enhanced T1, elsewhere the first CT
VAGUE = {
    "t1": _words("mpr ana tfe"),
    "t2": _words("haste"),
    "pd": _words("dp"),
    "dwi": _words("trace"),
    "us": _words("us 2ch 4ch bmode ultrasound"),
    "cine": _words("cine heart"),
}

# A contrast agent makes T1-weighted images "t1ce"; a negation before it takes that back.
CONTRAST = _words(
    "ce gd gad gado gadolinium gadovist gadavist gadobutrol dotarem magnevist multihance prohance omniscan dtpa km"
    " contrast contraste kontrast kontrastmittel kontrastmittelgabe mdc enhanced enh post injection inj injecte"
)
AGENTS = CONTRAST - _words("post enhanced enh inj")  # of these a BIDS label such as acq-gad is sure to speak
NEGATION = _words("no non not without wo pre before ohne vor sans avant sin senza")
UNENHANCED = _words("pre native nativ unenhanced")
# What "post" may stand before without meaning a contrast agent.
AFTER_POST = _words(
    "op operation operative surgery surgical resection biopsy treatment treat therapy tx rt radiation chemo proc"
    " process processed processing mortem natal stroke ictal injury trauma intervention training exercise test"
)

# Words of label maps, of findings (their outline, or a scan that shows them), and of tissues.
MASK = _words(
    "mask masks msk seg segs segm segmentation segmentations segmented dseg fseg aseg synthseg label labels labelmap"
    " gt groundtruth aparc wmparc parc parcellation annotation annotations annot contour contours outline roi rois voi"
    " dkt dktatlas ribbon segtri pveseg gtv brainmask"
)
FINDING = _words("lesion lesions tumor tumors tumour tumours edema oedema necrosis infarct wmh consensus")
TISSUE = _words("gm wm csf")

# Images that are none of the modalities, whatever else their name says: T2*, maps, perfusion, transforms …
OTHER = _words(
    "t2star t2starw t2s t2smap swi swan swip qsm minip mip tof mra mrv angio angiography pet fdg spect amyloid"
    " asl pcasl pasl cbf cbv rcbv mtt ttp tmax pwi perf perfusion dsc dce ctp bold fmri rfmri tfmri epi sbref"
    " dir psir t1rho mtr mtsat mtw mton mtoff map maps qt1 qt2 r2star inv1 inv2 inverse phase magnitude fieldmap"
    " biasfield ratio difference diff residual error noise jacobian thickness curvature warp warpfield inversewarp"
    " deformation displacement transform xfm velocity prob probs probseg probability probabilities softseg posteriors"
    " pve uncertainty variance entropy heatmap tissueclass synthsr scout localizer localiser survey"
)
IN_CT = _words("angio angiography phase")  # of the words above, those that describe a CT as well
ECHO = _words("gre ffe fl2d hemo heme medic epi fgre mpgr")  # gradient echoes: T2 with these is T2*
DIFFUSIVITY = _words("fa md rd ad l1 l2 l3 colfa tensor")  # maps of diffusion tensors

# Spaces to which images are moved.
SPACES = _words("mni std standard native template atlas")
# What follows one of these is the target of a registration: a moved image keeps its own modality.
TARGET = _words("to in into onto on coreg coregistered reg registered aligned")
SPACE = _words("space reg")  # and what precedes these, behind another image: t2_t1space

# Words that say nothing here, but may be glued to others.
_NEUTRAL = _words(
    "brain head bet hdbet n3 n4 skull stripped fl3d tse fse se vibe mprsag spc cube sag cor tra ax axial sagittal"
    " coronal tr ts raw orig preproc preprocessed norm fast first manual auto deface defaced gradwarp"
    " dixon weighted mit nach with avec apres after con"
)
ORIENTATION = _words("ax axial tra trans sag sagittal cor coronal oblique obl se tse fse weighted 2d 3d")

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
    "b mode": "bmode",
    "o ot": "groundtruth",  # VSD.Brain.XX.O.OT, of BraTS and ISLES 2015
}
_NAMES = frozenset().union(*PLAIN.values(), *VAGUE.values())
_CONTRAST_WORDS = CONTRAST | NEGATION | UNENHANCED | AFTER_POST
_KNOWN = frozenset().union(
    _NAMES, _CONTRAST_WORDS, MASK, FINDING, TISSUE, OTHER, ECHO, DIFFUSIVITY, TARGET, SPACE, SPACES, AMBIGUOUS, _NEUTRAL
)
# Short words that occur inside others by chance, and so are never found glued to them.
_GLUED = _KNOWN - _words("us se in on ad md rd fa ts tr op tx rt gm wm dp ana test con")
LONGEST = 40  # letters of a token that is divided; longer ones may be divided in too many ways
_T1 = PLAIN["t1"] | PLAIN["t1ce"]
# SPM and CAT12 put these before a name: classes of tissue; and the steps that resliced, warped or smoothed the image.
_CLASSES = re.compile(r"m?[rw]*[cp][0-6](?=(t1|t2|flair|pd|mprage))")
_STEPS = re.compile(r"[mrsuw]{1,3}(?=(t1|t2|flair|mprage))")
_DIMENSIONS = re.compile(r"[234]d(?=[a-z])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words_in(text: str) -> list[str]:
    """Words of a file name without its ending, or of a description, in lower case; glued words are divided.

    "T1PostContrast_brainMask" gives t1ce, brain, mask; "t2_tirm_dark-fluid" t2, tirm, darkfluid; "T1+C" t1, contrast.
    """
    text = re.sub(r"(?i)t2w?\*", "t2star", text)
    text = re.sub(r"(?i)^i?y_", "deformation ", text)  # of SPM
    text = re.sub(r"(?i)(?<![a-z0-9])w/ ?w/?o(?![a-z0-9])", " post pre ", text)
    text = re.sub(r"(?i)(?<![a-z0-9])w/o(?![a-z])", " without ", text)
    text = re.sub(
        r"(?i)\+ ?c(?![a-z0-9])|(?<![a-z0-9])c\+|(?<=t1)c\+|((?<=t1)|(?<=t1w))[ _-]c(?![a-z0-9])", " contrast ", text
    )
    text = re.sub(r"(?i)(?<=t1)\+(?![a-z0-9 ])", " contrast ", text)  # "T1+"
    words = [word for token in re.findall(r"[^\W_]+", text) for word in _divided(token)]
    joined = f" {' '.join(words)} "
    for phrase, word in _PHRASES.items():
        joined = joined.replace(f" {phrase} ", f" {word} ")
    return joined.split()


def is_known(word: str) -> bool:
    """Whether a word says something of the image or of its processing, and so nothing of the subject."""
    return word in _KNOWN


def _divided(token: str) -> Iterator[str]:
    word = token.lower()
    if found := _CLASSES.match(word):
        yield from ("tissueclass", word[found.end() :])
        return
    word = _DIMENSIONS.sub("", word, count=1) if word not in _KNOWN else word
    numbered = word.rstrip("0123456789")
    if word in _KNOWN:
        yield word
    elif numbered in MASK | OTHER or (numbered in _NAMES and len(numbered) > 2):
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
        yield word


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
    if kinds & _T1 and kinds & CONTRAST and not kinds & (NEGATION | AFTER_POST):
        return ["t1ce", *(piece for piece in pieces if piece not in _T1 | CONTRAST)]
    return pieces
