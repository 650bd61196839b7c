"""Published files arrive on this machine whole and verified, or not at all under their own name."""
