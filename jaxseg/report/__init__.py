"""What a person looks at: pictures, charts and the page of a run."""
