local DAY_MS = 86400000

-- Months and days of UTC, by Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms" (public domain):
-- civil_from_days and days_from_civil, with years that begin in March so that a leap day is a year's last.

-- The month of a day since the epoch, counted from January of the year 0.
local function month_of(day)
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year_of_era = math.floor(
    (of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local from_march = math.floor((5 * of_year + 2) / 153)
  return (era * 400 + year_of_era) * 12 + from_march + 2
end

-- The day since the epoch on which such a month begins.
local function first_day_of(month)
  local year, from_march = math.floor((month - 2) / 12), (month - 2) % 12
  local era = math.floor(year / 400)
  local year_of_era = year - era * 400
  local of_year = math.floor((153 * from_march + 2) / 5)
  local of_era = year_of_era * 365 + math.floor(year_of_era / 4) - math.floor(year_of_era / 100) + of_year
  return era * 146097 + of_era - 719468
end
