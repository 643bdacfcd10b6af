"""Networks in plain torch: usable without a Runner, a config file or a training model."""
