"""Families of hypotheses: from the evidence to hypotheses on each failing tensor."""
