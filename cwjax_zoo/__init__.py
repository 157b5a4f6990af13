"""The larger trained networks of cwjax: data alone, read by `cwjax.lab.zoo`."""
