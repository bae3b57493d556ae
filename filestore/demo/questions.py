"""Six questions about the flights, as a person would ask them in SQL, each answered in at most five rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Question:
    """What is asked in words and in SQL. Every ORDER BY is total, so that an answer can be compared."""

    words: str
    sql: str


QUESTIONS: Final = (
    Question(
        "Which airlines fly most, and how late are they?",
        """
        SELECT a.name AS airline, count(*) AS flights, round(avg(f.arr_delay), 1) AS "mean delay",
               round(100.0 * sum(CASE WHEN f.arr_delay > 60 THEN 1 ELSE 0 END) / count(f.arr_delay), 1) AS "% > 1 h"
        FROM flights f JOIN airlines a ON a.carrier = f.carrier
        GROUP BY a.name
        ORDER BY flights DESC, airline
        LIMIT 5""",
    ),
    Question(
        "Which airplanes carry most seats away?",
        """
        SELECT p.manufacturer, p.model, count(DISTINCT p.tailnum) AS planes, sum(p.seats) AS seats
        FROM flights f JOIN planes p ON p.tailnum = f.tailnum
        WHERE f.dep_time IS NOT NULL
        GROUP BY p.manufacturer, p.model
        HAVING count(DISTINCT p.tailnum) >= 10
        ORDER BY seats DESC, p.model
        LIMIT 5""",
    ),
    Question(
        "Does the weather at departure cost time?",
        """
        SELECT CASE WHEN w.visib < 2 THEN '1 fog' WHEN w.precip > 0 THEN '2 rain or snow'
                    WHEN w.wind_speed > 25 THEN '3 storm' WHEN w.temp < 32 THEN '4 frost' ELSE '5 fair' END AS weather,
               count(*) AS flights, round(avg(f.dep_delay), 1) AS "mean delay",
               sum(CASE WHEN f.dep_time IS NULL THEN 1 ELSE 0 END) AS cancelled
        FROM flights f JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
        GROUP BY 1
        ORDER BY 1""",
    ),
    Question(
        "Which large destinations are the hardest to reach?",
        """
        SELECT coalesce(a.name, 'not in airports: ' || f.dest) AS airport, count(*) AS flights,
               round(avg(f.arr_delay), 1) AS "mean delay"
        FROM flights f LEFT JOIN airports a ON a.faa = f.dest
        GROUP BY a.name, f.dest
        HAVING count(*) >= 2000
        ORDER BY "mean delay" DESC, airport
        LIMIT 5""",
    ),
    Question(
        "Which days went wrong, against an average day?",
        """
        WITH daily AS (
            SELECT make_date(year, month, day) AS date, avg(dep_delay) AS delay,
                   sum(CASE WHEN dep_time IS NULL THEN 1 ELSE 0 END) AS cancelled
            FROM flights GROUP BY year, month, day)
        SELECT date, round(delay, 1) AS "mean delay", cancelled
        FROM daily
        WHERE delay > (SELECT 3 * avg(delay) FROM daily)
        ORDER BY delay DESC, date
        LIMIT 5""",
    ),
    Question(
        "Do old airplanes fly late?",
        """
        SELECT p.year / 10 * 10 AS "built in the", count(*) AS flights, round(avg(f.arr_delay), 1) AS "mean delay",
               min(f.distance) AS shortest, max(f.distance) AS longest
        FROM flights f JOIN planes p ON p.tailnum = f.tailnum
        WHERE p.year IS NOT NULL AND f.arr_delay IS NOT NULL
          AND f.distance BETWEEN 200 AND 3000
          AND p.tailnum IN (SELECT tailnum FROM flights GROUP BY tailnum HAVING count(*) > 50)
        GROUP BY 1
        ORDER BY 1 DESC
        LIMIT 5""",
    ),
)
