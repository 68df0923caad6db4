// The pipelines' Azure resources: the lake, the function app, what its host needs, and alerts. See docs/deploy.md.

targetScope = 'resourceGroup'

@description('Name of the function app; others are derived from it. Letters, digits and hyphens.')
@minLength(3)
@maxLength(40)
param name string

@description('Where; the Flex Consumption plan must be available there.')
param location string = resourceGroup().location

@description('Name of the lake\'s storage account.')
@minLength(3)
@maxLength(24)
param lakeAccount string

@description('The container that is the lake.')
param lakeContainer string = 'luxorasap'

@description('Whether to create the lake. False for one that exists in this resource group: it is left as it is.')
param newLake bool = true

@description('Whether a new lake takes its account key, as programs with nothing but a connection string need.')
param lakeSharedKeys bool = true

@description('Memory of an instance, in MB.')
@allowed([2048, 4096])
param instanceMemoryMB int = 2048

@description('Whether fx_rates gets the rates from the European Central Bank itself.')
param fetchRates bool = true

@description('Whether to watch the runs: one that failed, and a pipeline that was not done when it was due.')
param alerts bool = false

@description('Who is told by an alert.')
param alertEmails string[] = []

var python = loadJsonContent('../functions/python.json')
var suffix = uniqueString(resourceGroup().id, name)
var hostAccount = 'host${suffix}'
var packages = 'packages'
var runQueue = 'luxor-runs'

// Roles, by their well-known ids.
var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var blobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var queueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var tableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

// --- the lake -------------------------------------------------------------------------------------

resource lake 'Microsoft.Storage/storageAccounts@2023-05-01' = if (newLake) {
  name: lakeAccount
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_ZRS' }
  properties: {
    isHnsEnabled: true
    allowBlobPublicAccess: false
    allowSharedKeyAccess: lakeSharedKeys
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource lakeBlobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = if (newLake) {
  parent: lake
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 30 }
    containerDeleteRetentionPolicy: { enabled: true, days: 30 }
  }
}

resource lakeFiles 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = if (newLake) {
  parent: lakeBlobs
  name: lakeContainer
}

resource lakeFound 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  name: '${lakeAccount}/default/${lakeContainer}'
}

// --- what the host needs --------------------------------------------------------------------------

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-identity'
  location: location
}

resource host 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: hostAccount
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource hostBlobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: host
  name: 'default'
}

resource hostPackages 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: hostBlobs
  name: packages
}

resource hostQueues 'Microsoft.Storage/storageAccounts/queueServices@2023-05-01' = {
  parent: host
  name: 'default'
}

resource runs 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' = [for queue in [runQueue, '${runQueue}-poison']: {
  parent: hostQueues
  name: queue
}]

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: '${name}-logs'
  location: location
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 90
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: '${name}-insights'
  location: location
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: logs.id
    DisableLocalAuth: true
  }
}

// --- what the app may do --------------------------------------------------------------------------

// The lake: its files, and nothing else of the account.
resource mayUseLake 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(lakeFound.id, identity.id, blobDataContributor)
  scope: lakeFound
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
  }
  dependsOn: [lakeFiles]
}

// The host's own account: packages, keys and the timers' leases in blobs, queued runs, diagnostic events in a table.
resource mayHost 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in [blobDataOwner, queueDataContributor, tableDataContributor]: {
  name: guid(host.id, identity.id, role)
  scope: host
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}]

resource mayReport 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identity.id, metricsPublisher)
  scope: insights
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

// --- the app --------------------------------------------------------------------------------------

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: '${name}-plan'
  location: location
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${host.properties.primaryEndpoints.blob}${packages}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: 40
      }
      runtime: { name: 'python', version: python.version }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      appSettings: [
        { name: 'AzureWebJobsStorage__accountName', value: host.name }
        { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
        { name: 'AzureWebJobsStorage__clientId', value: identity.properties.clientId }
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
        { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'ClientId=${identity.properties.clientId};Authorization=AAD' }
        { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
        { name: 'LUXOR_LAKE_URL', value: 'abfss://${lakeContainer}@${lakeAccount}.dfs.${environment().suffixes.storage}' }
        { name: 'LUXOR_ECB_FETCH', value: string(fetchRates) }
      ]
    }
  }
  dependsOn: [hostPackages, runs, mayUseLake, mayHost, mayReport]
}

// --- alerts ---------------------------------------------------------------------------------------

resource operators 'Microsoft.Insights/actionGroups@2023-01-01' = if (alerts) {
  name: '${name}-operators'
  location: 'global'
  properties: {
    groupShortName: 'luxor'
    enabled: true
    emailReceivers: [for (email, index) in alertEmails: {
      name: 'operator${index}'
      emailAddress: email
      useCommonAlertSchema: true
    }]
  }
}

resource failed 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = if (alerts) {
  name: '${name}-failed'
  location: location
  kind: 'LogAlert'
  properties: {
    displayName: 'A run of ${name} failed'
    description: 'What failed, and what to do about it, is in the log line; see docs/deploy.md.'
    severity: 1
    enabled: true
    scopes: [insights.id]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: loadTextContent('failed.kql')
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    autoMitigate: false
    actions: { actionGroups: [operators.id] }
  }
}

resource late 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = if (alerts) {
  name: '${name}-late'
  location: location
  kind: 'LogAlert'
  properties: {
    displayName: 'A pipeline of ${name} is not done two hours after it was due'
    description: 'Its timer did not fire, or its runs failed, died or were skipped; see docs/deploy.md.'
    severity: 2
    enabled: true
    scopes: [insights.id]
    evaluationFrequency: 'PT1H'
    windowSize: 'P2D'
    criteria: {
      allOf: [
        {
          query: loadTextContent('late.kql')
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [{ name: 'pipeline', operator: 'Include', values: ['*'] }]
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    autoMitigate: true
    actions: { actionGroups: [operators.id] }
  }
}

output AZURE_FUNCTION_APP string = app.name
output AZURE_FUNCTION_APP_URL string = 'https://${app.properties.defaultHostName}'
output LUXOR_LAKE_URL string = 'abfss://${lakeContainer}@${lakeAccount}.dfs.${environment().suffixes.storage}'
