"""Measures dgate beside DCMTK's storescp and Orthanc on the machine at hand."""
