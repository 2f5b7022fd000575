"""What names of files and folders say of a subject: visits, dates, sides, splits and classes are none.

Words are those of English data sets. Where a name may be read in two ways, the reading with fewer subjects is taken: it
never puts one patient into both splits.
"""

from __future__ import annotations

import re
import unicodedata

from meddiffusers.data.modalities import LABELS, modality_in, without_known_words


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SPLITS = _words(
    "train training tr val valid validation test testing ts dev development eval evaluation holdout hold heldout unseen"
    " trainset testset valset trainval"
)
_CONTENT = _words("image images img imgs scan scans volume volumes mask masks label labels seg segs segmentations")
_PLACES = _words(
    "nifti niftis nii dicom dicoms dcm mri mr raw rawdata data dataset derivatives source sourcedata original originals"
    " anat func processed preprocessed unprocessed input inputs output outputs target targets nrrd mha mhd held out all"
    " new old internal external labelled labeled unlabelled unlabeled annotated subjects patients cases"
    " patienten probanden slices controls participants people"
)
_CLASSES = _words(
    "gesund krank kontrolle kontrollen tumore"
    " healthy normal abnormal control patient case disease diseased sick pathological pathology tumor tumour tumors"
    " tumours notumor lesion lesions glioma gliomas glioblastoma gbm hgg lgg meningioma pituitary metastasis metastases"
    " cancer stroke ischemic hemorrhagic haemorrhagic ms ad mci emci lmci smc cn nc hc ctl ctrl dementia demented"
    " nondemented alzheimer parkinson epilepsy benign malignant positive negative pos neg yes no covid pneumonia"
    " fibrosis male female males females men women boys girls adult adults child children pediatric paediatric young"
    " mild moderate severe responder nonresponder progressive stable placebo treated untreated"
)
_NUMBERED = _words(  # what is a group also with a number: "test_001" is a case, "fold_1" is not
    "fold split set group class grade stage site center centre hospital scanner cohort batch arm part chunk shard"
    " category"
)
_VISIT = (
    r"(?:visit|vis|sessions?|sess?|timepoint|time[_ -]?point|tp|baseline|bl|follow[_ -]?up|fup?|months?|mon|mo|mth"
    r"|weeks?|wk|days?|years?|yrs?|retest|preop|postop|admission|discharge|screening)"
)
_REPEAT = (
    r"(?:scan|exam|study|series|run|rep|repeat|acq|acquisition|echo|slice|frame|vol|volume|image|img|stack|patch"
    r"|tile|crop|aug|no)"
)
_EDGE, _END = r"(?:(?<![^\W\d])|(?<=_))", r"(?![^\W\d_])"  # no letter before, none behind
_DATES = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d(?P<a>[-_.]?)(?:0[1-9]|1[0-2])(?P=a)(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])(?P<b>[-_.]?)(?:0[1-9]|1[0-2])(?P=b)(?:19|20)\d\d)(?:[tT_-]?\d{6}|[tT]\d{4})?(?!\d)"
)
_VISITS = re.compile(rf"{_EDGE}{_VISIT}[_ -]?\d*{_END}", re.IGNORECASE)
_REPEATS = re.compile(rf"{_EDGE}(?:{_REPEAT}[_ -]?\d+|[vmdwy]\d{{1,4}}|t0|mr[_ -]?\d{{1,2}}){_END}", re.IGNORECASE)
_CHANGES = re.compile(  # copies of an image
    rf"{_EDGE}(?:aug|augmented|flipped|hflip|vflip|mirrored|rotated|rot\d+|cropped|resized|noisy|shifted|scaled){_END}",
    re.IGNORECASE,
)
_SIDES = re.compile(rf"{_EDGE}(?:left|right|lt|rt|lh|rh|od|os){_END}|{_EDGE}[lr](?![^\W_])", re.IGNORECASE)
_RUNS = re.compile(  # behind a modality: "t1_2", OASIS' "mpr-4"
    rf"(?:{_EDGE}|(?<=_))(mpr|mprage|t1|t1w|t1ce|t1gd|t2|t2w|flair|pd|dwi|adc|ct)[_-]\d{{1,2}}(?![^\W_])", re.IGNORECASE
)
_COPIES = re.compile(r"\(\d+\)|(?<![^\W_])copy(?:[_ -]?\d+)?(?![^\W_])", re.IGNORECASE)
_FIELD = re.compile(r"\d(?:[._]\d)?[tT]|[234][dD]")  # of the scanner; or the dimensions
_ROMAN = re.compile(r"[a-z]|i{1,3}|iv")
_CHANNEL = re.compile(r"(?:(?<=[_-]\d\d)|(?<=[_-]\d{3})|(?<=[_-]\d{4}))_000\d$")  # of nnU-Net: BRATS_001_0000


def person_in(text: str) -> str:
    """What a file's name without its ending says of the subject: it without words on the image; "" if nothing.

    "p7_visit2_t1" and "p7_2021-03-01" give "p7".
    """
    text = _COPIES.sub("", text)
    shorter = _RUNS.sub(r"\1", text)
    text = shorter if re.search(r"\d", without_known_words(shorter)) else text
    return without_visits(_CHANNEL.sub("", without_known_words(text)))


def without_visits(name: str) -> str:
    """A name without dates, visits, repetitions and sides, unless nothing that names a subject is left of it."""
    if name.startswith("sub-"):
        return name.partition("_")[0]
    for pattern, needed in (
        (_DATES, r"[^\W_]"),
        (_VISITS, r"[^\W_]"),
        (_REPEATS, r"\d"),
        (_SIDES, r"\d"),
        (_CHANGES, r"\d"),
    ):
        if (shorter := pattern.sub("_", name)) != name and re.search(needed, shorter):
            name = re.sub(r"[ _.-]*_[ _.-]*", "_", shorter).strip("_")
    return name


def is_group(folder: str) -> bool:
    """Whether a folder is named after a split, a class, a kind of content, a visit or a date, and so no subject."""
    if any(pattern.fullmatch(folder) for pattern in (_DATES, _VISITS, _SIDES, _FIELD)):
        return True
    if _names_image(folder) or not without_known_words(folder):
        return True
    words = _split(folder)
    known = SPLITS | _CONTENT | _PLACES | _CLASSES
    if any(word.rstrip("0123456789") in _NUMBERED for word in words):
        return all(word.rstrip("0123456789") in _NUMBERED | known | {""} or _ROMAN.fullmatch(word) for word in words)
    return bool(words) and all(word in known or word[:-1] in SPLITS for word in words)


def may_be_visit(folder: str) -> bool:
    """Whether a folder's name, such as "M06", is of a visit or of a subject; what is in it tells which."""
    return bool(_REPEATS.fullmatch(folder))


def names_split(folder: str) -> bool:
    """Whether a folder is named after a split, such as "train" or "imagesTs"."""
    return is_group(folder) and any(word in SPLITS or word[:-1] in SPLITS for word in _split(folder))


def without_groups(name: str) -> str:
    """A name without the words by which folders are groups, such as "train" or "fold1"."""
    words = re.split(r"[ _.-]+", name)
    kept = [word for word in words if word.lower() not in SPLITS and word.lower().rstrip("0123456789") not in _NUMBERED]
    return "_".join(kept)


def without_content(folder: str) -> str:
    """A folder's name as it tells rows apart: "images" and "masks" are of the same rows, as imagesTr and labelsTr."""
    words = _split(folder)
    others = [word for word in words if word not in _CONTENT]
    if len(others) < len(words) and all(word in SPLITS for word in others):
        return "_".join(others)
    return "" if _names_image(folder) else folder


def canonical(subject: str) -> str:
    """One spelling of a subject: "P-007" and "p_7" are the same."""
    text = re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFKC", subject).strip().casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _names_image(folder: str) -> bool:
    """Whether a folder's name tells the modality of its images; "tumour_1" is a subject."""
    found = modality_in(folder)
    return bool(found) and not (found == LABELS and folder[-1:].isdigit())


def _split(text: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])\d*|\d+", text)]
