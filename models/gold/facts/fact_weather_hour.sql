-- title: Weather by hour
-- grain: one UTC hour of one city with an observation
-- key: city_id, hour
-- unit: degrees Celsius, %, hPa, m/s, mm
-- definition: Over the hour's observations: mean, least and highest temperature, mean humidity, pressure and wind; rain and snow: the highest of their sums over the last hour, 0 when none is told. The names are those of the last observation.
-- partition: day of hour
-- source: WMO, Guide to Instruments and Methods of Observation (WMO-No. 8), 2021
SELECT
  city_id,
  date_trunc('hour', observed_at) AS hour,
  last_value(city ORDER BY observed_at) AS city,
  last_value(country ORDER BY observed_at) AS country,
  count(*) AS observations,
  avg(temperature) AS temperature,
  min(temperature) AS temperature_least,
  max(temperature) AS temperature_most,
  avg(humidity) AS humidity,
  avg(pressure) AS pressure,
  avg(wind_speed) AS wind_speed,
  max(coalesce(rain_1h, 0)) AS rain,
  max(coalesce(snow_1h, 0)) AS snow
FROM silver.weather
GROUP BY city_id, date_trunc('hour', observed_at)
