"""Bills of materials of what is shipped, in CycloneDX's JSON, from what the lists pin."""
