"""Which files a data set has: found, checked, remembered; `data.tracks` is the front."""
