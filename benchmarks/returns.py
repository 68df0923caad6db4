"""`hist_returns`: from the lake to the frame of one month, every asset × 6 periods × 3 currencies."""

from __future__ import annotations

from datetime import date, timedelta
REF = date(2026, 10, 31)
PERIODS = ["mtd", "qtr", "ytd", "12m", "24m", "36m"]
BASES = [date(2026, 9, 30), date(2026, 9, 30), date(2025, 12, 31), date(2025, 10, 31), date(2024, 10, 31), date(2023, 10, 31)]
DATES = sorted({REF, *BASES})
CURRENCIES = ["local", "usd", "brl"]
COLUMNS = ["Date","Key","Currency","Period","Price_Key","Local_Currency","Return","Status","Base_Date","End_Date","Base_Price","End_Price"]
