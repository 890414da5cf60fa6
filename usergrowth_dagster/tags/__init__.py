"""What is known of each person on a date, as tags: rules, sums, scores, uploads, RFM and AIPL."""
