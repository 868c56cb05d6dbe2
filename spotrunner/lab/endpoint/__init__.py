"""An emulated AWS on one loopback port: our EC2 over the simulated market, moto for the rest."""
