"""The Mixture tab."""
