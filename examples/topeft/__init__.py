"""A TopEFT-like search for new physics in events with several leptons: generator, Coffea processor, plots."""
