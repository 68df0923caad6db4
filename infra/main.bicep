// The pipelines' Azure resources: the lake, the function app and what its host needs. See docs/deploy.md.

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

@description('Memory of an instance, in MB.')
@allowed([2048, 4096])
param instanceMemoryMB int = 2048

@description('Whether fx_rates gets the rates from the European Central Bank itself.')
param fetchRates bool = true

var python = loadJsonContent('../functions/python.json')
var suffix = uniqueString(resourceGroup().id, name)
var hostAccount = 'host${suffix}'
var packages = 'packages'

// Roles, by their well-known ids.
var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var blobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
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
  identity: { type: 'SystemAssigned' }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${host.properties.primaryEndpoints.blob}${packages}'
          authentication: { type: 'SystemAssignedIdentity' }
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
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
        { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'Authorization=AAD' }
        { name: 'LUXOR_LAKE_URL', value: 'abfss://${lakeContainer}@${lakeAccount}.dfs.${environment().suffixes.storage}' }
        { name: 'LUXOR_ECB_FETCH', value: string(fetchRates) }
      ]
    }
  }
  dependsOn: [hostPackages]
}

// --- what the app may do --------------------------------------------------------------------------

// The lake: its files, and nothing else of the account.
resource mayUseLake 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(lakeFound.id, app.id, blobDataContributor)
  scope: lakeFound
  properties: {
    principalId: app.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
  }
  dependsOn: [lakeFiles]
}

// The host's own account: packages, keys and the timers' leases in blobs, diagnostic events in a table.
resource mayHost 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in [blobDataOwner, tableDataContributor]: {
  name: guid(host.id, app.id, role)
  scope: host
  properties: {
    principalId: app.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}]

resource mayReport 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, app.id, metricsPublisher)
  scope: insights
  properties: {
    principalId: app.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

output app string = app.name
output address string = 'https://${app.properties.defaultHostName}'
output lake string = 'abfss://${lakeContainer}@${lakeAccount}.dfs.${environment().suffixes.storage}'
