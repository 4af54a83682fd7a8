//! Pulls come to an end, leave the service even, and never go to and fro.
