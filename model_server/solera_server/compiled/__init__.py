"""Predictors made from a model file without scikit-learn: read, checked, flattened, then only arithmetic."""
