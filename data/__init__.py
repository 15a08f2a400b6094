"""Audio files to training batches: index, segments, augmentation, Lightning data modules."""
