"""DICOM in, DICOM out: receives clinical photographs, takes the identity out, forwards them to a research archive."""
