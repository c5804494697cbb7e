-- title: Weather by day
-- grain: one UTC day of one city with an observation
-- key: city_id, day
-- unit: degrees Celsius, %, hPa, m/s, mm, hours
-- definition: Means of the hours' means, least and highest of their extremes, sums of rain and snow over the hours. hours: those with an observation.
-- partition: day of day
-- source: WMO, Guide to Climatological Practices (WMO-No. 100), 2018
SELECT
  city_id,
  CAST(hour AS DATE) AS day,
  last_value(city ORDER BY hour) AS city,
  last_value(country ORDER BY hour) AS country,
  count(*) AS hours,
  avg(temperature) AS temperature,
  min(temperature_least) AS temperature_least,
  max(temperature_most) AS temperature_most,
  avg(humidity) AS humidity,
  avg(pressure) AS pressure,
  avg(wind_speed) AS wind_speed,
  sum(rain) AS rain,
  sum(snow) AS snow
FROM gold.fact_weather_hour
GROUP BY city_id, CAST(hour AS DATE)
