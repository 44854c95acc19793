"""Parts of published methods, written from the authors' public code without a look at ours."""
