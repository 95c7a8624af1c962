"""InsightFace detection, embedding, and the small pack of the nano bundle."""
