"""The HTTP service that answers with scores: four doors over the version that scores now."""
