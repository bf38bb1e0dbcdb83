"""Lets installers that look for `setup.py` find `setup.cfg`."""

from setuptools import setup

setup()
