-- title: RFM segments
-- grain: one combination of scores
-- key: r, f, m
-- unit: text
-- definition: What each combination of the scores recency, frequency and monetary (1 to 5, 5 is best) is called. The first rule that holds names it.
-- source: A. Hughes, Strategic Database Marketing, 1994; J. Bult, T. Wansbeek, Optimal selection for direct mail, Marketing Science 14(4), 1995
WITH scores AS (
  SELECT unnest(range(1, 6)) AS score
)
SELECT
  CAST(r.score AS INT) AS r,
  CAST(f.score AS INT) AS f,
  CAST(m.score AS INT) AS m,
  CASE
    WHEN r.score >= 4 AND f.score >= 4 AND m.score >= 4 THEN 'champions'
    WHEN r.score >= 3 AND f.score >= 4 THEN 'loyal'
    WHEN r.score >= 4 AND f.score <= 2 THEN 'new'
    WHEN r.score >= 3 THEN 'promising'
    WHEN r.score = 2 AND f.score >= 3 THEN 'at risk'
    WHEN r.score = 1 AND f.score >= 4 THEN 'cannot lose'
    WHEN r.score = 2 THEN 'about to sleep'
    ELSE 'lost'
  END AS segment
FROM scores r CROSS JOIN scores f CROSS JOIN scores m
