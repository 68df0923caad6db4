// What the template is given, by `az deployment group create --parameters infra/main.bicepparam` and by `azd up`.

using 'main.bicep'

param name = readEnvironmentVariable('LUXOR_APP', readEnvironmentVariable('AZURE_ENV_NAME', 'luxor-pipelines'))
param lakeAccount = readEnvironmentVariable('LUXOR_LAKE_ACCOUNT')
param newLake = bool(readEnvironmentVariable('LUXOR_NEW_LAKE', 'true'))
param lakeSharedKeys = bool(readEnvironmentVariable('LUXOR_LAKE_SHARED_KEYS', 'true'))
param alerts = readEnvironmentVariable('LUXOR_ALERT_EMAILS', '') != ''
param alertEmails = filter(split(readEnvironmentVariable('LUXOR_ALERT_EMAILS', ''), ','), email => email != '')
