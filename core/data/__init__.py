"""Images and labels in: sources, decoding, the ordered manifest, planted label errors. Nothing here needs torch."""
