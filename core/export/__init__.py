"""What leaves: `manifest` puts an export together and writes it whole, `formats` holds one function per file format.

Nothing here loads torch, and nothing here changes a source: an export goes to a new folder.
"""
