"""From the ring's pixels to fragments of MP4: conversion, encoders, muxing."""
