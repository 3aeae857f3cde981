typedef int dps_keep;
