"""The models of Ano-Skin: arrays in, arrays out; nothing here knows DICOM."""
