"""The modality of DICOM images, by their tags, which outrank texts, and by their descriptions.

Of descriptions only words of `data.modality_words` are kept, never the text: it may name a patient.
"""

from meddiffusers.data.io.dicom_modality.series import modality_of, modality_of_images, modality_of_series

__all__ = ["modality_of", "modality_of_images", "modality_of_series"]
