// Shows /openapi.json with Swagger UI; everything comes from this service. No inline script: the content security policy forbids it.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
