"""Models on the disk: where they are, what they need, and how they are downloaded."""
