"""dgate: a DICOM gateway, router and archive driven by four text files."""

__version__ = "0.1.0"
