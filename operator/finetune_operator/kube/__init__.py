"""A narrow adapter on the official client: raw JSON in and out. Nothing here knows FineTuneJobs."""
